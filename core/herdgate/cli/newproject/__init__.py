"""`proxyctl plugins new`: a small installable project for one hook, whose tests pass at once."""
