"""The rooms of the admin service, wired."""

from broker.client import Broker
from router.admin.audit import AuditRoom
from router.admin.dead_letters import LetterRoom
from router.admin.editor import Editor
from router.admin.keys import KeyRoom
from router.admin.tenants import TenantRoom
from router.admin.usage import UsageRoom
from router.admin.workers import WorkerRoom
from router.config import Config
from router.directory.directory import Directory
from router.documents import DocumentWatch


def admin_rooms(config: Config, directory: Directory, broker: Broker, watch: DocumentWatch) -> list[object]:
    """All of `bitlane.v1.AdminService`: each method is one room's."""
    editor = Editor(broker.documents, watch)
    return [
        TenantRoom(config, directory, editor),
        KeyRoom(config, directory, editor),
        UsageRoom(config, directory, broker),
        WorkerRoom(config, broker),
        LetterRoom(directory, broker),
        AuditRoom(directory, broker.audit),
    ]
