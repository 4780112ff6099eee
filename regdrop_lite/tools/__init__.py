"""Find, swap, set and check the dropping layers of any model, with torch alone.

Layers of torchvision and timm are known by the name and the package of their class, so
that neither has to be installed.
"""

from regdrop_lite.tools._audit import Audit, Row, audit
from regdrop_lite.tools._find import drop_layers
from regdrop_lite.tools._monte_carlo import monte_carlo_mode
from regdrop_lite.tools._replace import Replaced, replace_layers, set_rates

__all__ = [
    "Audit",
    "Replaced",
    "Row",
    "audit",
    "drop_layers",
    "monte_carlo_mode",
    "replace_layers",
    "set_rates",
]
