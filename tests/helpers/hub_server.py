"""A hub of one process that speaks the part of the Hugging Face Hub's protocol that uploads and downloads need."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in memory: `revisions[name][sha]` is a dictionary of files, `heads[name]` the newest sha."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.revisions, self.heads, self.blobs, self.calls = {}, {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def commit(self, name, files):
        """Make a new revision of a repository, with all of these files; returns its sha."""
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.revisions.setdefault(name, {})[sha] = dict(files)
        self.heads[name] = sha
        return sha

    def find(self, name, revision):
        """(sha, files) of a revision, or None."""
        sha = self.heads.get(name) if revision == "main" else revision
        files = self.revisions.get(name, {}).get(sha)
        return None if files is None else (sha, files)


@contextlib.contextmanager
def serve():
    """A running `Hub`."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status=200, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _missing(self, what="RepoNotFound"):
        self._send(404, {"error": what}, X_Error_Code=what)

    def do_GET(self):
        self.server.calls.append(f"{self.command} {self.path}")
        path = urllib.parse.unquote(self.path.partition("?")[0])
        info = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(?:revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        if info:
            return self._info(info[1], info[2] or "main", "/tree/" in path)
        return self._file(*file.groups()) if file else self._missing()

    do_HEAD = do_GET

    def _info(self, name, revision, tree):
        found = self.server.find(name, revision)
        if found is None:
            return self._missing("RevisionNotFound" if name in self.server.heads else "RepoNotFound")
        sha, files = found
        if tree:
            return self._send(200, [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ])  # fmt: skip
        self._send(200, {"id": name, "sha": sha, "siblings": [{"rfilename": path} for path in files]})

    def _file(self, name, revision, path):
        found = self.server.find(name, revision)
        if found is None or path not in found[1]:
            return self._missing("EntryNotFound")
        content = found[1][path]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self._send(200, content, ETag=etag, X_Repo_Commit=found[0], X_Linked_Size=len(content))

    def do_PUT(self):
        self.server.calls.append(f"PUT {self.path}")
        self.server.blobs[self.path.rpartition("/")[2]] = self._body()
        self._send()

    def do_POST(self):
        self.server.calls.append(f"POST {self.path}")
        body, path = self._body(), urllib.parse.unquote(self.path.partition("?")[0])
        if path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given.get('organization') or 'owner'}/{given['name']}"
            if name in self.server.heads:
                return self._send(409, {"url": f"{self.server.url}/{name}", "error": "exists"})
            self.server.commit(name, {".gitattributes": b"*.h5 filter=lfs\n"})
            return self._send(200, {"url": f"{self.server.url}/{name}"})
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self._send(200, {"transfer": "basic", "objects": objects})
        preupload = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/preupload/([^/]+)", path)
        if preupload:
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".h5") else "regular",
                 "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            return self._send(200, {"files": files})
        commit = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/commit/([^/]+)", path)
        return self._commit(commit[1], body) if commit else self._missing()

    def _commit(self, name, body):
        files = dict(self.server.revisions[name][self.server.heads[name]])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        sha = self.server.commit(name, files)
        url = f"{self.server.url}/{name}/commit/{sha}"
        self._send(200, {"success": True, "commitOid": sha, "commitUrl": url})
