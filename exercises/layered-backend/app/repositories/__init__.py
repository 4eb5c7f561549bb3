"""Where rows are read and written; the caller commits."""
