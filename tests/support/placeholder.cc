namespace isthmus::testing {}
