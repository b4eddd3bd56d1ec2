"""Keys, schedules, seeding, atomic files, and what a bundle's config calls."""
