# For type checkers: they would take this folder for the standard library's module and find nothing in it.
from typing import Any

def __getattr__(name: str) -> Any: ...
