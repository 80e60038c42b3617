"""What ``bench`` measures: the way of pictures, and the conformal core beside other libraries."""
