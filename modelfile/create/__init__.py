"""Making a model: from uploaded files or from another model, with texts and parameters of its own.

`create` is the whole of it. What is to be made is a `CreateRequest`; `with_modelfile` adds what a Modelfile says.
"""

from modelfile.create.checks import check_names
from modelfile.create.creation import Pull, create
from modelfile.create.legacy import read_modelfile, with_modelfile
from modelfile.create.references import References
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
