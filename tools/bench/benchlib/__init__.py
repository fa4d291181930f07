# SPDX-License-Identifier: MIT
"""The parts of tools/bench/run; the standard library is all they need."""
