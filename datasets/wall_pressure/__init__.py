"""Wall planes, sensors and reference tables."""
