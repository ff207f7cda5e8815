"""One HTML file about a project: figures from what it was compiled to and what its profile counted.

    collect (sources.py) -> Data -> one module per figure -> Figure -> page.py -> text

Figures are pure functions; altair, vl_convert and fast_sugiyama are imported only here, when a report is made.
"""
