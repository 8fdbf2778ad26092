import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aloe_sim.meshes import decimate


@given(arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3), st.just(3)), elements=st.floats(-50, 50, width=32)))
def test_decimation_keeps_vertices_within_a_cell_and_faces_solid(triangles):
    vertices, faces = decimate(triangles, 5.0)
    assert len(vertices) <= 3 * len(triangles)
    assert vertices.min() >= triangles.min() - 1e-3 and vertices.max() <= triangles.max() + 1e-3
    if len(faces):
        assert faces.max() < len(vertices)
        assert all(len(set(face)) == 3 for face in faces.tolist())
        assert len({tuple(sorted(face)) for face in faces.tolist()}) == len(faces)


def test_a_cell_smaller_than_the_detail_changes_nothing():
    tetrahedron = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]], np.float32)
    triangles = tetrahedron[[[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]]
    vertices, faces = decimate(triangles, 0.1)
    np.testing.assert_allclose(np.sort(vertices[faces].reshape(-1)), np.sort(triangles.reshape(-1)))
