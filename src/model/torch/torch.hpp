// The one header through which this target sees libtorch: its precompiled header.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
