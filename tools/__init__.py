"""What the build needs and a reader never imports."""
