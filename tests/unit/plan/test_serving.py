"""What is remembered of what pods are served: under which name, from which document, and since which revision."""

from __future__ import annotations

from aigateway_operator.render.shards import shard_of
from tests.builders import make_virtual_model, make_world


def test_a_renamed_model_is_of_the_revision_that_has_its_new_name() -> None:
    """Whoever waits for the rename by status would go on before any pod knows the name."""
    world = make_world(make_virtual_model("chat"), make_virtual_model("other"))
    world.apply(make_virtual_model("chat", modelName="fast"))
    world.round()
    assert world.manifest()["revision"] == 2
    assert world.statuses["chat"].fields == {"modelName": "fast", "revision": 2}
    assert world.statuses["other"].fields["revision"] == 1


def test_a_model_that_moves_out_of_a_document_that_cannot_be_written_is_served_where_it_came_to() -> None:
    """The old document still has it, and pods take it from the newer one."""
    here, there = (next(name for name in map("name-{}".format, range(20)) if shard_of(name, 2) == shard) for shard in (0, 1))
    world = make_world(make_virtual_model("chat", modelName=here), delivery={"shards": 2})
    owners = world.objects.by_name["Secret", "main-credentials-00"]["metadata"]["ownerReferences"]
    world.objects.edit("Secret", "main-credentials-00")["metadata"]["ownerReferences"] = []
    world.apply(make_virtual_model("chat", modelName=there))
    world.round()
    assert here in world.document(0)["ai-gateway"]["virtual_models"]
    assert there in world.document(1)["ai-gateway"]["virtual_models"]
    assert world.served["chat"].entry.model_name == there
    assert world.statuses["chat"].fields["modelName"] == there
    world.objects.edit("Secret", "main-credentials-00")["metadata"]["ownerReferences"] = owners
    world.settle()
    assert set(world.entries()) == {there}
