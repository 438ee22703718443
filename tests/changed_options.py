"""A value other than the default for every setting of `GenerationOptions`."""

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.settings import Setting, settings_of


def another_value(setting: Setting, default: object) -> object:
    if setting.kind == "choice":
        return next(choice for choice in setting.choices if choice != default)
    if setting.kind in ("switch", "language"):
        return not default if default is not None else False
    return setting.low if setting.low != default else setting.high


CHANGED = {
    name: another_value(setting, getattr(GenerationOptions, name))
    for name, setting in settings_of(GenerationOptions).items()
}
