"""A check for schemathesis, loaded by SCHEMATHESIS_HOOKS."""

import schemathesis


@schemathesis.check
def valid_rows_are_accepted(_context, response, case) -> None:
    """What fits the document is predicted, unless the model does not take the value, which nobody can know."""
    if not case.path.endswith(":predict") or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if not isinstance(case.body, dict) or "instances" not in case.body:
        return  # columns: that they have one length is beyond JSON Schema
    if response.status_code == 400 and "the model does not take" in response.text:
        return
    assert response.status_code == 200, (
        f"{response.status_code} for rows that fit the document: {response.text}"
    )
