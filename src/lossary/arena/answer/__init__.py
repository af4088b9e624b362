"""From what was measured to an answer: analysis, report, pictures, exports."""
