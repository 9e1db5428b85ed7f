"""Small programs with one mistake each, and small programs without: what an audit has to say of them."""
