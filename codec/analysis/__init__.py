"""What is learnt from the pictures of a source before anything is trained."""
