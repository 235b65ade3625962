"""The Nanosecond Club: the small web site on which the lab shows everything."""
