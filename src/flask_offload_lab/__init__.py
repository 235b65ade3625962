"""The lab: the lesson as a Flask app, on real mail, real photos and real `kill -9`."""
