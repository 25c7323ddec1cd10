"""The compute engine of farlabs, for machines with the libtorch that it was built with."""
