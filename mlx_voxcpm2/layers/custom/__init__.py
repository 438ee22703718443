"""Custom kernels for Metal and CUDA, each beside the plain graph that it replaces.

An operation is a frozen dataclass of the sizes and settings of a call. It has the plain graph
(`plain`), the kernel's launch (`custom`) and random inputs (`example`). A kernel is used only where
`CHOICES` has a variant of it for the operation, which `mlx_voxcpm2.trials` puts there once the
kernel has given the plain graph's result on this machine in less time. Elsewhere, on a CPU always,
the plain graph runs. A kernel has no gradient: modules in training mode ask for none.
"""
