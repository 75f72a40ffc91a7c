"""Write sentences about the objects of photographs that have boxes, and read them back."""
