"""Networks, losses, miners, samplers, pretrained backbones."""
