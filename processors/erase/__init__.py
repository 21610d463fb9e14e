"""The erase processor: carries out orders to erase a device's frames, one after the other, and says when it is done."""
