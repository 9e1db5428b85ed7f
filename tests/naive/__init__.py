"""A second engine, written to be obviously right instead of quick, against which the first is held."""
