import os, time, resource
from pathlib import Path
from streams.kafka_import import KafkaImport
from streams.bundle import *
from tests.bundles import *
from tests.contract.test_bundle import settings_of
from streams.names import Namespace
from topology import wiring
from topology.bundle_import import import_bundle
from schemas.catalogue import *

def test_bench(stack, namespace, tmp_path):
    settings = settings_of(stack, namespace); wiring.prepare(settings)
    schemas, blobs = wiring.schemas(settings), wiring.blob_store(settings)
    mem = World(partitions=4); mem.schemas = schemas
    for s in range(500):
        for d in range(20): mem.pass_by(f"gate-{d}", s, image=b"x"*2000+f"{d} {s}".encode())
    # write the same to kafka by import of a memory bundle
    p = tmp_path/"m.hsb"
    t=time.time(); m=bundled(mem.past(), p); print("memory create", time.time()-t, p.stat().st_size)
    n=sum(s.records_count for q in m.partitions for s in q.segments)
    t=time.time(); done=import_bundle(p, settings, most_filled=10**9, progress=lambda *a: None) if False else None
    target = settings_of(stack, Namespace(f"i{os.urandom(4).hex()}"))
    t=time.time(); done=import_bundle(p, target, most_filled=10**9, progress=lambda *a: None); print("import", n, "records", m.blobs.count, "blobs", time.time()-t, done)
    past = Past(log=wiring.event_log(target), schemas=wiring.schemas(target), blobs=wiring.blob_store(target), source="live")
    q = tmp_path/"k.hsb"
    t=time.time(); m2=bundled(past, q); dt=time.time()-t; print("create from kafka+s3", n, dt, n/dt, q.stat().st_size)
    t=time.time(); v=verify_bundle(q); print("verify", time.time()-t, v.whole)
    assert q.read_bytes()==p.read_bytes() or print("differ")
    w=KafkaImport(wiring.bootstrap_servers(settings), Namespace(f"i{os.urandom(4).hex()}")); w.prepare({RELEASES:1})
    t=time.time(); k=w.write(RELEASES,0,iter([(200_000, 1_790_000_000_000, None)])); dt=time.time()-t; print("fill", k, dt, k/dt)
    t=time.time(); w.trim(RELEASES,0,200_000); print("trim", time.time()-t)

import pytest
def test_planted(stack, namespace, tmp_path, monkeypatch):
    mem = World(partitions=1)
    for s in range(3): mem.pass_by("gate-1", s)
    p = tmp_path/"m.hsb"; bundled(mem.past(), p)
    target = settings_of(stack, Namespace(f"i{os.urandom(4).hex()}"))
    mem.schemas=wiring.schemas(target)
    import confluent_kafka
    orig = KafkaImport._produce
    def late(self, name, partition, at_ms, record): return orig(self, name, partition, int(time.time()*1000), record)
    monkeypatch.setattr(KafkaImport, "_produce", late)
    import_bundle(p, target, most_filled=10**9, progress=lambda *a: None)
    log=wiring.event_log(target)
    with open_bundle(p) as past:
        assert everything(past.log) != everything(log); print("a planted bug: times differ", )
