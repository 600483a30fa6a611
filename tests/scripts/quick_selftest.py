"""The engine's self-test on its first quantisation alone, with the arguments of the whole one."""

import sys

from engine.runner import selftest

if __name__ == "__main__":
    selftest.QUANTIZATIONS = selftest.QUANTIZATIONS[:1]
    sys.exit(selftest.main())
