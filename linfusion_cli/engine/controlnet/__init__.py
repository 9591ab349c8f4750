"""ControlNets, on the whole image or in bands."""
