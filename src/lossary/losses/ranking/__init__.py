"""Learning to rank: lists of scored items with graded relevance."""

from lossary.losses.ranking.approx_ndcg import ApproxNDCGLoss as ApproxNDCGLoss
from lossary.losses.ranking.ar2_ranker import AR2RankerLoss as AR2RankerLoss
from lossary.losses.ranking.ar2_retriever import AR2RetrieverLoss as AR2RetrieverLoss
from lossary.losses.ranking.lambda_loss import LambdaLoss as LambdaLoss
from lossary.losses.ranking.list_mle import ListMLELoss as ListMLELoss
from lossary.losses.ranking.list_net import ListNetLoss as ListNetLoss
from lossary.losses.ranking.neural_ndcg import NeuralNDCGLoss as NeuralNDCGLoss
from lossary.losses.ranking.neural_ndcg_transposed import NeuralNDCGTransposedLoss as NeuralNDCGTransposedLoss
from lossary.losses.ranking.rank_net import RankNetLoss as RankNetLoss
