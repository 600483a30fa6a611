"""Creates models from uploaded files or from another model, with their own texts and parameters.

`create` runs a `CreateRequest`; `with_modelfile` adds the commands of a Modelfile to one.
"""

from modelfile.create.checks import check_names
from modelfile.create.creation import Pull, create
from modelfile.create.legacy import References, read_modelfile, with_modelfile
from modelfile.create.request import CreateError, CreateRequest, FileMap

__all__ = [
    "CreateError",
    "CreateRequest",
    "FileMap",
    "Pull",
    "References",
    "check_names",
    "create",
    "read_modelfile",
    "with_modelfile",
]
