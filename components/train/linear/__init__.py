"""A linear model beside the network and the trees."""
