"""Results for people: a table in the terminal (tables) and one page that opens without a network (page).

Nothing here computes a measure: a number is printed as the runner stored it, or counted from what it retrieved.
"""
