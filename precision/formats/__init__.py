"""The number formats that pools compute in, exact to the bit, in NumPy float32."""
