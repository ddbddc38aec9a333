"""Uninformed Students: students that know only good parts disagree with their teacher, and with each other, on defects."""
