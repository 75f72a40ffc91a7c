"""The measurements of `make bench` (one file per project), their storage and their page."""
