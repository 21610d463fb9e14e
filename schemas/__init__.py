"""What an event is: Avro schemas, event types, codecs, ids, envelopes and errors. Imports nothing of ours.

`catalogue` says which event lives on which topic; `codec` turns events into bytes and back; `streams` moves the bytes.
"""
