"""Download published data: transfers that continue, safe unpacking, and where the files belong."""
