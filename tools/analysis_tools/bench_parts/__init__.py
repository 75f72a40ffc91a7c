"""What `make bench` measures (one file a project), where figures are kept, and the page of them."""
