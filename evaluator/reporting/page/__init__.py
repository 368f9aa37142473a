"""The page of a report: `report.html`, one file that opens in a browser without a network.

contents         what the page shows, as one JSON object
selection        which images the page has room for
sprites          many images as one PNG file
document         the HTML file
comparison       the page of several experiments

Its template is page.html.jinja and its style page.css. Its scripts are bytes.js, reading.js, statistics.js,
elements.js, settings.js, grid.js, charts.js, ranking.js, denoising.js and main.js, in this order in
one script of the page.
"""
