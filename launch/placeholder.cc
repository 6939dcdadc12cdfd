namespace isthmus {}
