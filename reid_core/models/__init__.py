"""Networks: a timm backbone, a neck and a classifier. Own backbones are modules with ``build``."""
