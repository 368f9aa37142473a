"""The command `play`: a page that samples from a checkpoint while one moves the guidance weight (extra [page]).

command         the command: loads the files, prints the address
configuration   what is sampled from, and where the page is served
image_request   what the page requests, checked as on the command line
session         one image at a time, with what is predicted at every step
page            the page as one HTML file
server          the page's server, on this machine alone

The page's template is page.html.jinja, its script play.js and its style play.css, beside parts of a report's page.
"""
