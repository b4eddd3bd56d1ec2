"""The report page: one HTML file that says what a study or a run found."""

from monai_ssl.report.page import Written, write_report
from monai_ssl.report.run_sources import GivenData

__all__ = ["GivenData", "Written", "write_report"]
