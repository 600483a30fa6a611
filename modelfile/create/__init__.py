"""Making a model: from uploaded files or from another model, with texts and parameters of its own.

`create` is the whole of it; what is to be made is a `CreateRequest`.
"""

from modelfile.create.checks import check_names
from modelfile.create.creation import Pull, create
from modelfile.create.errors import CreateError
from modelfile.create.request import CreateRequest, FileMap

__all__ = ["CreateError", "CreateRequest", "FileMap", "Pull", "check_names", "create"]
