"""HTTP in, a service, HTTP out."""
