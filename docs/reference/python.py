"""Writes the reference of the package farlabs, and fails where something public has no description."""

import inspect
import pathlib
import sys
import warnings

import farlabs
import pdoc

silent = []
for name in farlabs.__all__:
    thing = getattr(farlabs, name)
    if not inspect.isclass(thing):
        continue
    if not (thing.__doc__ or "").strip() or thing.__doc__.startswith(f"{name}("):
        silent.append(name)
    for member, value in vars(thing).items():
        # A name that says it all needs no more than its type.
        if inspect.isfunction(value) and not member.startswith("_") and not value.__doc__:
            silent.append(f"{name}.{member}")
if silent:
    sys.exit(f"without a description: {', '.join(silent)}")
warnings.simplefilter("error")
# Names that only type checkers see are shown as they are written.
warnings.filterwarnings("ignore", ".* type annotation ")
# A TypedDict forgets whom it inherits its keys from.
warnings.filterwarnings("ignore", r"Cannot determine where farlabs\.\w+Options\.")
pdoc.pdoc("farlabs", output_directory=pathlib.Path(sys.argv[1]))
