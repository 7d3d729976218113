"""Figures. Nothing else draws."""
