"""The executable rule book: scenarios that a trader can read, each proving rules by id, and what plays them.

`language` reads the files in `rules`, `venue` plays their steps against whatever can do them, `over_http` is a server that speaks
the HTTP contract, `rule_book` plays a selection against one and `report` tells what came of it. Imports `domain`; `cli` calls it.
"""

from ome.conformance.language import Scenario, read_rule_book
from ome.conformance.report import print_list, print_report
from ome.conformance.rule_book import ConformanceError, ConformanceReport, play_rule_book, select

__all__ = [
    "ConformanceError",
    "ConformanceReport",
    "Scenario",
    "play_rule_book",
    "print_list",
    "print_report",
    "read_rule_book",
    "select",
]
