"""The sample app: the small web site on which the lab shows everything."""
