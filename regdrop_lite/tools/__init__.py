"""Find, swap, set and check the dropping layers of any model, with torch alone.

Layers of torchvision and timm are known by the name and the package of their class, so
that neither has to be installed.
"""

from regdrop_lite.tools.audit import audit
from regdrop_lite.tools.find import drop_layers
from regdrop_lite.tools.monte_carlo import monte_carlo_mode
from regdrop_lite.tools.replace import replace_layers, set_rates

__all__ = [
    "audit",
    "drop_layers",
    "monte_carlo_mode",
    "replace_layers",
    "set_rates",
]
