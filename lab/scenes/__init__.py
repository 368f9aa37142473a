"""Rendered pictures that look like i-CLEVR's (extra [scenes]); nothing else imports this room.

layout     which objects stand where, and which pairs of classes are held out
studio     one scene as a picture, by Mitsuba
rendering  a folder of such pictures, several processes at a time
"""
