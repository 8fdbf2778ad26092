from aloe_ros.testing import own_domain

own_domain()
